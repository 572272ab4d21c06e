"""What one tile's queries say: class scores, labels, panoptic segments, instances.

The rules are those of EoMT (Kerssies et al., "Your ViT is Secretly an Image Segmentation Model", CVPR 2025), which has
them from Mask2Former (Cheng et al., CVPR 2022). The order of the work is ours: queries are dropped before they are
enlarged, and enlarged by strips of rows, so that memory stays bounded while the pixels stay the same.

Softmax, sigmoid and sums are float32 whatever the logits are stored in. Rows come before columns: a size is (H, W).
"""

from eomt_core.postprocess.instances import Instances, instance, paint, with_instance_scores
from eomt_core.postprocess.scores import fold_scores, semantic, semantic_scores
from eomt_core.postprocess.segments import Panoptic, Segment, panoptic

__all__ = [
    "Instances",
    "Panoptic",
    "Segment",
    "fold_scores",
    "instance",
    "paint",
    "panoptic",
    "semantic",
    "semantic_scores",
    "with_instance_scores",
]

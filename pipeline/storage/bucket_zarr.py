"""Zarr in a bucket: zarr's own store over obstore, with the one request that obstore does not make again."""

import asyncio
from typing import TYPE_CHECKING, Any

from obstore.exceptions import GenericError
from zarr.storage import ObjectStore

from pipeline.storage import buckets

if TYPE_CHECKING:
    from upath import UPath


class BucketStore(ObjectStore[Any]):
    """Deletes again what it could not delete: chunks of fill alone are deleted rather than written."""

    async def delete(self, key: str) -> None:
        """Delete an object, where it is there."""
        for attempt in range(1, buckets.ATTEMPTS):
            try:
                return await super().delete(key)
            except GenericError as error:
                if buckets.was_patient(error):
                    raise
                await asyncio.sleep(buckets.pause(attempt))
        return await super().delete(key)


def bucket_store(path: "UPath") -> BucketStore:
    """The store of a group or array in a bucket."""
    return BucketStore(buckets.store_below(path))

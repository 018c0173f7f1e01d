"""Detection: torchvision's Mask R-CNN or Faster R-CNN with an FPN on an encoder, trained and judged on COCO data."""

from slmlp.detection.main import detect

__all__ = ["detect"]

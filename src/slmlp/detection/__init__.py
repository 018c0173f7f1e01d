"""Train and evaluate torchvision's Mask R-CNN or Faster R-CNN with FPN, on an encoder, on COCO data."""

from slmlp.detection.main import detect

__all__ = ["detect"]

"""What the seed alone decides: the training order, initial weights, sizes of images."""

"""COCO-format datasets: what a card promises, reading and checking, and the embedded synthetic default."""

"""Networks trained here, from nothing, on the images at hand.

`networks` builds them, `data` holds the images, `augment` draws views, `loop` trains and survives
a kill, `saving` keeps the result as a backbone; `rotnet` and `dino` are the methods and `run` is
the whole way.

`lsdc_images` trains a network on until its features fall into clusters, with views and composites
from `composition`; `joint` trains it on together with TEMI's head. `lsdc_run` and `joint_run` go
from a source or a herd to what is kept.
"""

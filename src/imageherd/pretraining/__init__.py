"""Networks trained here, from nothing, on the images at hand.

`networks` builds them, `data` holds the images, `augment` draws views, `loop` trains and survives
a kill, `saving` keeps the result as a backbone; `rotnet` and `dino` are the methods and `run` is
the whole way.
"""

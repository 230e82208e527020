"""One module for each way on which a notice reaches a person. A channel only sends."""

"""StreamDiffusion: one UNet call a frame, with as many frames in flight as there are steps."""

"""Pictures from prompts and pictures, one request at a time."""

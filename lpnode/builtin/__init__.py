"""The model that ships with the node: its pictures, its training and its measure."""

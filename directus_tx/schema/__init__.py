"""What a project's database holds: the model of it, its types, how it is read and how it is changed."""

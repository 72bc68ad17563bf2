"""Which effects a study decides: before anything is trained, and from what it measured."""

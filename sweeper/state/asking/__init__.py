"""What a search is asked for, by its spec or by hand, and where that is kept until it is done."""

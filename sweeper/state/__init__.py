"""What survives a crash: study, lease, folders, mirror."""

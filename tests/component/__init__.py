"""The Function app inside Microsoft's worker library."""

"""`cxr-train profile`: what training waits for, and what would fix it."""

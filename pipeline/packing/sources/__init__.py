"""From the bytes of one file to gray pixels of full range, a module a file format."""

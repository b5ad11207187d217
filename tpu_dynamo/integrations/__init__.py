"""What other libraries need to know of the device, told to them once they are imported, and to none before."""

"""What a chain is: a kernel, an adaptation and rows put together; what is kept of its draws."""

"""The node: io_uring toward the network, TUN and routes toward its own applications."""

"""The hub: AF_XDP toward the network, TUN and NAT toward the internet."""

"""What does an eBPF collector cost my service, and what do I get for it?"""

__version__ = "0.1.0"

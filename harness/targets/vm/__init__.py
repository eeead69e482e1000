"""Machines that become a cluster, or are measured bare; the only package that knows Ansible."""

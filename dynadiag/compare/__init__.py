"""Runs against each other: has a change made the diagonal kernels slower, or is it noise?

What is compared are ratios of times taken in turns in one process, never times. It knows records
and the names of arms that the configuration gives, nothing else of sparsity.
"""

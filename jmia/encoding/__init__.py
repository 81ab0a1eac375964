"""Membership encoded into a model on purpose, and read back with a secret key.

Song and Shokri, *Robust Membership Encoding: Inference Attacks and Copyright Protection
for Deep Learning* (ASIA CCS 2020). `keys` and `synthetic` say what a secret stands for,
`activations` reads a model, `encode` trains one, `decode` tells members from others.
"""

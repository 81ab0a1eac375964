"""Membership inference via backdooring: mark one's data, then ask who trained on it.

Hu, Salcic, Dobbie, Chen, Sun & Zhang, "Membership Inference via Backdooring" (IJCAI
2022). Import the module you need.
"""

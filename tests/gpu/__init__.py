"""``make gpu``: what can only be checked and measured where there is a GPU, with the CPU to stand in for one."""

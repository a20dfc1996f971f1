"""Fakes that behave, and checks for parts of your own: for tests, ours and those of others. Never used while running.

kernel = FakeJetson("jetson-tx2")            a board with its drivers, in this process
with mounted(kernel, root): ...              as files that answer like a kernel (FUSE; needs root and /dev/fuse)
with Directory(kernel, root): ...            as plain files, refreshed: no error reaches the writer
await check_actuator(make, read_all)         does a driver keep its promises?
"""

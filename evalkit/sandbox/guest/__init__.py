"""What runs inside the sandbox: started as a program of its own, imports nothing of evalkit but itself."""

"""The billing API: FastAPI on uvicorn, one tenant per key."""

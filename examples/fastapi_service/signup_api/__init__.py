"""A registration service with FastAPI and the asynchronous database: `uvicorn signup_api.app:app`."""

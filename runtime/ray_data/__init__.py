"""Finding actions with Ray Data: in very many videos, on all CPUs of a machine or of a cluster.

``python -m stale_runtime.ray_data --help`` says how to run it; ``dataset_stages`` has the same as functions on a
``ray.data.Dataset``. It needs the extra ``ray``, but importing these modules does not import Ray.
"""

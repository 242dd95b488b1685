"""A chain on loopback with the contracts that the node is paid through, for demos and tests.

``chain`` deploys and drives it, ``paid_chain`` adds an orchestrator and a gateway with funds,
``evm_process`` runs anvil or, where there is none, the ``py_evm_*`` modules as a node.
"""

"""Azure Service Bus on this machine: queues over AMQP 1.0, for the unmodified azure-servicebus.

`queue.py` and what it imports are the rules of Service Bus, without I/O; `amqp/` speaks the protocol;
`storage.py` keeps everything in SQLite, so that a killed broker goes on where it was.
"""

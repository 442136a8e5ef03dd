"""AMQP 1.0 as Service Bus speaks it, on the engine of Apache Qpid Proton and asyncio.

https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide
"""

"""The outbox: messages to the outside world, written in the transaction that causes them and delivered afterwards."""

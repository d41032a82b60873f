"""The clients under test behind one small interface, so that every test can run with every one of them."""

from .aio import AioKafka
from .confluent import Confluent
from .kcat import Kcat
from .kafka_python import KafkaPython
from .rdkafka import Rdkafka

CLIENTS = [KafkaPython(), Confluent(), AioKafka(), Kcat(), Rdkafka()]
"""kafka-python, confluent-kafka (librdkafka 2.16), aiokafka, kcat and a C program (both on Debian's librdkafka)."""

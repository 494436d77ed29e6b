"""TLS with the servers that this device speaks to: certificates, keys, authorities.

Store and live events take the same value (``TlsFiles``) and ask the same thing of it
(``TlsContexts``); what goes wrong has one set of names (``trouble``).
"""

"""The service of the running-process package: answers each payload with "pong:" before it.

    service.py NAME VERSION DIRECTORY      its socket is below DIRECTORY"""
import sys

from running_process_service import ServiceSpec, serve

serve(ServiceSpec(name=sys.argv[1], version=sys.argv[2], payload_protocol=0xF0B7, runtime_dir=sys.argv[3]), lambda payload: b"pong:" + payload)

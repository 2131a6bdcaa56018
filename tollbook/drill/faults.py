"""Every fault of a drill, by name."""

from tollbook.drill.case import Fault
from tollbook.drill.event_faults import EVENT_FAULTS
from tollbook.drill.server_faults import SERVER_FAULTS
from tollbook.drill.worker_faults import WORKER_FAULTS

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*WORKER_FAULTS, *SERVER_FAULTS, *EVENT_FAULTS)
}

"""Every fault of a drill, by name."""

from tollbook.drill.case import Fault
from tollbook.drill.event_faults import EVENT_FAULTS
from tollbook.drill.request_faults import REQUEST_FAULTS
from tollbook.drill.server_faults import SERVER_FAULTS
from tollbook.drill.stack_faults import STACK_FAULTS
from tollbook.drill.worker_faults import WORKER_FAULTS

# Those that want workers of other settings stand together: these start anew for them.
FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in sorted(
        (*WORKER_FAULTS, *SERVER_FAULTS, *REQUEST_FAULTS, *STACK_FAULTS, *EVENT_FAULTS),
        key=lambda fault: fault.is_last,
    )
}

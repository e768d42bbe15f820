"""The daemons' configuration: a single copy of all data, on loopback, all files in the working directory."""

from deployments.local.stack import HOST

_OSD_BYTES = 4 << 30  # a sparse file


def configuration(cluster_id: str, monitor_port: int, s3_port: int) -> str:
    """Return the text of `ceph.conf`. Its paths are relative, because Ceph splits paths at spaces."""
    return f"""\
[global]
fsid = {cluster_id}
mon host = v2:{HOST}:{monitor_port}
public addr = {HOST}
cluster addr = {HOST}
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
# radosgw's own default is encryption, which needs authentication.
ms mon client mode = crc

# By default these lead to /var, /run and /, which is also where a daemon goes.
run dir = .
crash dir = .
keyring = no-keyring
admin socket =
pid file =
chdir =
log file =
mon cluster log file =
log to stderr = true
mon cluster log to stderr = false
debug rocksdb = 1

mon allow pool size one = true
mon warn on pool no redundancy = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
# The first start makes a dozen pools, each a round of the monitor, which by default waits a second.
paxos propose interval = 0.05

[mon]
mon data = mon
# The shares of the whole disk that must be free: a monitor ends itself below 5 %.
mon data avail warn = 0
mon data avail crit = 0

[osd]
osd data = osd
osd objectstore = bluestore
bluestore block size = {_OSD_BYTES}
bluestore fsck on mkfs = false

[client.rgw]
rgw data = rgw
rgw frontends = beast endpoint={HOST}:{s3_port} tcp_nodelay=1
# Background work that a short life does not need; its threads would hold up the end by 5 s.
rgw dynamic resharding = false
rgw enable lc threads = false
rgw enable gc threads = false
"""

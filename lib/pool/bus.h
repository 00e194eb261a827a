/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/*
 * The names of lunkitd's D-Bus interface: the contract between lunkitd and its clients.
 *
 * Service org.lunkit1, object /org/lunkit1:
 *   org.lunkit1.Manager
 *     Attach(s image, a{sv} options) -> (o lun)     image: a reference. options: fabric s (loop, vhost, none; default loop), read-only b, cache s,
 *                                                   persist b, name s (backstore), block-size u, serial s. Answers when the disk is usable.
 *     Detach(s lun, a{sv} options) -> ()            lun: a backstore's name, an image reference, or a device path. options: forget b (default true: also
 *                                                   the record of --persist), force b (although the disk is in use here, or can't be flushed)
 *     Find(s lun) -> (o lun)                        the same names; org.lunkit1.Error.NotFound
 *     List() -> (aa{sv})                            one dictionary a LUN: the properties below
 *     Restore() -> (as names, as errors)            attaches what --persist recorded and is not attached
 *     Status() -> (a{sv})                           version s, pid u, start-time t (CLOCK_REALTIME, microseconds), kernel-target b, handlers as, luns u,
 *                                                   workers u, problems as
 *   org.freedesktop.DBus.ObjectManager              the LUN objects, with InterfacesAdded and InterfacesRemoved
 * Objects /org/lunkit1/lun/NAME (sd_bus_path_encode of the backstore's name):
 *   org.lunkit1.LUN
 *     properties, all read-only: Name s, Image s (reference), Kind s, Size t (bytes), BlockSize u, ReadOnly b, Cache s, State s (starting, serving,
 *       restarting, held, stopping), Reason s (why it is held), WorkerPid u, Restarts u, Fabric s (loop, vhost, iscsi, mixed, none), Exports as
 *       ("loop naa.…", "vhost naa.…"), Devices as (/dev/sdX), DeviceLinks as (/dev/disk/by-id/…), Wwn s (NAA, hex), Serial s, Persistent b, Notice s
 *       (a warning of the worker's, or empty)
 *     Info() -> (s json)                            what `lunkit info` shows
 *     Statistics() -> (s json)                      the worker's counters
 *     Resize(t size, u flags) -> (t size)           0 adopts the storage's size; flags as LUNKIT_RESIZE_*; answers when the disks here show the new size
 *     Check(u flags) -> (o job)                     flags as LUNKIT_CHECK_REPAIR_*; Result: the report
 *     Map(h output, t offset, t length) -> (o job)  output: a memfd, which gets the JSON text (lib/worker/text.h); length 0: to the end
 *     Snapshots(h output) -> (o job)                the same
 *     SnapshotCreate(s name), SnapshotDelete(s name), SnapshotRevert(s name) -> (o job)
 *                                                   after a revert to another size, the disks here show it when the job is done
 *     Flatten(t rate) -> (o job)                    rate: bytes a second, 0: no limit
 *     Export(h output, s target, a{sv} options) -> (o job)
 *                                                   output: an empty file that the caller has opened for writing (or a pipe, with stream); target: the path that it
 *                                                   will have, for messages and links in it. options: format s (raw, qcow2), snapshot s, options s (of creating it,
 *                                                   ";"-separated), compress b, stream b (raw bytes), rate t. The job ends when the caller leaves the bus.
 *   One job at a time on a LUN (org.lunkit1.Error.InUse), but Map and Snapshots go beside others.
 * Objects /org/lunkit1/job/N, which stay for a minute after their end:
 *   org.lunkit1.Job
 *     properties, all read-only: Kind s (check, map, snapshots, snapshot-create, …, flatten, export), Lun s (its name), Done t, Total t (0: not known), State s
 *       (running, done, failed, cancelled), Error s (when it failed: the error's name, its message and its hint, a line each), Result s (JSON, or empty)
 *     Cancel() -> ()                                it ends soon, in order
 *     SetRate(t rate) -> ()
 *     signal Finished(s state, s error, s result)
 * Errors: org.lunkit1.Error.{InvalidArgument, NotFound, Exists, InUse, NoSpace, AccessDenied, NotSupported, TimedOut, Failed}. The message is what a person reads;
 * a line break separates the hint from it.
 *
 * Root and members of group lunkit may call it.
 */

#define BUS_NAME "org.lunkit1"
#define BUS_PATH "/org/lunkit1"
#define BUS_LUN_PREFIX "/org/lunkit1/lun"
#define BUS_JOB_PREFIX "/org/lunkit1/job"
#define BUS_MANAGER_INTERFACE "org.lunkit1.Manager"
#define BUS_LUN_INTERFACE "org.lunkit1.LUN"
#define BUS_JOB_INTERFACE "org.lunkit1.Job"
#define BUS_ERROR_PREFIX "org.lunkit1.Error."

/* libtcmu's and targetcli's side */
#define BUS_TCMU_NAME "org.kernel.TCMUService1"
#define BUS_TCMU_PATH "/org/kernel/TCMUService1"
#define BUS_TCMU_INTERFACE "org.kernel.TCMUService1"

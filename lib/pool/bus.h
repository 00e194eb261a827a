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
 * Errors: org.lunkit1.Error.{InvalidArgument, NotFound, Exists, InUse, NoSpace, AccessDenied, NotSupported, TimedOut, Failed}. The message is what a person reads;
 * a line break separates the hint from it.
 *
 * Root and members of group lunkit may call it.
 */

#define BUS_NAME "org.lunkit1"
#define BUS_PATH "/org/lunkit1"
#define BUS_LUN_PREFIX "/org/lunkit1/lun"
#define BUS_MANAGER_INTERFACE "org.lunkit1.Manager"
#define BUS_LUN_INTERFACE "org.lunkit1.LUN"
#define BUS_ERROR_PREFIX "org.lunkit1.Error."

/* libtcmu's and targetcli's side */
#define BUS_TCMU_NAME "org.kernel.TCMUService1"
#define BUS_TCMU_PATH "/org/kernel/TCMUService1"
#define BUS_TCMU_INTERFACE "org.kernel.TCMUService1"

import type { RouteRecordRaw } from 'vue-router'

export const fleetRoutes: RouteRecordRaw[] = [
  {
    path: 'ops/fleet',
    name: 'fleet',
    component: () => import('./FleetPage.vue'),
    meta: {
      audience: 'operator',
      permission: 'instances.read',
      nav: { group: 'platform', order: 20, label: 'nav.fleet' },
    },
  },
  {
    path: 'ops/fleet/:instanceId',
    name: 'fleetInstance',
    component: () => import('./FleetInstancePage.vue'),
    props: true,
    meta: { audience: 'operator', permission: 'instances.read', under: 'fleet' },
  },
]

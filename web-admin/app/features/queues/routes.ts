import type { RouteRecordRaw } from 'vue-router'

export const queuesRoutes: RouteRecordRaw[] = [
  {
    path: 'ops/queues',
    name: 'queues',
    component: () => import('./QueuesPage.vue'),
    meta: {
      audience: 'operator',
      permission: 'queues.read',
      nav: { group: 'platform', order: 40, label: 'nav.queues' },
    },
  },
]

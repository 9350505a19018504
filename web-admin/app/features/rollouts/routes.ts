import type { RouteRecordRaw } from 'vue-router'

export const rolloutsRoutes: RouteRecordRaw[] = [
  {
    path: 'ops/rollouts',
    name: 'rollouts',
    component: () => import('./RolloutsPage.vue'),
    meta: {
      audience: 'operator',
      permission: 'rollouts.read',
      nav: { group: 'platform', order: 30, label: 'nav.rollouts' },
    },
  },
]

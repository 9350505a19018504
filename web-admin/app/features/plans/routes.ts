import type { RouteRecordRaw } from 'vue-router'

export const plansRoutes: RouteRecordRaw[] = [
  {
    path: 'ops/plans',
    name: 'plans',
    component: () => import('./PlansPage.vue'),
    meta: {
      audience: 'operator',
      permission: 'plans.write',
      nav: { group: 'platform', order: 15, label: 'nav.plans' },
    },
  },
]

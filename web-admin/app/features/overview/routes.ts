import type { RouteRecordRaw } from 'vue-router'

export const overviewRoutes: RouteRecordRaw[] = [
  {
    path: 'overview',
    name: 'overview',
    component: () => import('./OverviewPage.vue'),
    meta: { audience: 'member', nav: { group: 'console', order: 10, label: 'nav.overview' } },
  },
]

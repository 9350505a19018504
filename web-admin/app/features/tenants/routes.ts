import type { RouteRecordRaw } from 'vue-router'

export const tenantsRoutes: RouteRecordRaw[] = [
  {
    path: 'ops/tenants',
    name: 'tenants',
    component: () => import('./TenantsPage.vue'),
    meta: { audience: 'operator', nav: { group: 'platform', order: 10, label: 'nav.tenants' } },
  },
]

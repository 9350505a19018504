import type { RouteRecordRaw } from 'vue-router'

export const companyRoutes: RouteRecordRaw[] = [
  {
    path: 'company',
    name: 'company',
    component: () => import('./CompanyPage.vue'),
    meta: {
      audience: 'member',
      permission: 'tenant.read',
      nav: { group: 'console', order: 80, label: 'nav.company' },
    },
  },
]

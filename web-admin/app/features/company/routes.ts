import type { RouteRecordRaw } from 'vue-router'

export const companyRoutes: RouteRecordRaw[] = [
  {
    path: 'company',
    name: 'company',
    component: () => import('./CompanyPage.vue'),
    meta: {
      audience: 'member',
      permission: 'tenant.read',
      nav: { group: 'company', order: 10, label: 'nav.company' },
    },
  },
]

lunkit_unit_test(iov base)
lunkit_unit_test(error base)
lunkit_unit_test(checked base)
lunkit_unit_test(path base)

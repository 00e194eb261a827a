lunkit_unit_test(protocol host)
lunkit_unit_test(opener host image)
lunkit_unit_test(process host)
lunkit_unit_test(sandbox worker)
